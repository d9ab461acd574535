"""Whether an endpoint answers and knows the model: asked before the first clip, so that no clip is blamed for it."""

from __future__ import annotations

import asyncio
import importlib.util

from pydantic import BaseModel, ValidationError

from curation.caption.endpoint import client
from curation.caption.transport import without_key
from curation.errors import UserError

INSTALL = "pip install '.[caption]'"
ANSWER_S = 30.0
_NOT_SERVED = (404, 405, 501)
_SHOWN = 5


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def check(url: str, model: str, key: str | None) -> str:
    """What holds, in a line. Raises `UserError` with what does not. An endpoint need not list its models; then nothing
    is known of them before the first clip.
    """
    if importlib.util.find_spec("openai") is None:
        raise UserError("captions by an endpoint need the package openai", INSTALL)
    return asyncio.run(_check(url, model, key))


async def _check(url: str, model: str, key: str | None) -> str:
    import openai

    remedy = "check `endpoint` in the recipe, and that its server is up"
    asking = client(url, key, ANSWER_S)
    try:
        async with asyncio.timeout(ANSWER_S):
            text = (await asking.models.with_raw_response.list()).text
    except TimeoutError:
        raise UserError(f"the endpoint {url} does not answer within {ANSWER_S:g} s", remedy) from None
    except openai.APIConnectionError as error:
        why = without_key(str(error.__cause__ or error), key)
        raise UserError(f"the endpoint {url} does not answer ({why})", remedy) from None
    except openai.APIStatusError as error:
        return _of_status(url, model, error.status_code, without_key(error.message, key))
    finally:
        await asking.close()
    try:
        names = [one.id for one in _Models.model_validate_json(text).data]
    except ValidationError:
        told = f"{url} answers, but not as an OpenAI-compatible endpoint does"
        raise UserError(told, "the address of one often ends with /v1") from None
    if model not in names:
        some = ", ".join(sorted(names)[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise UserError(f"the endpoint {url} has no model {model!r}", f"it has {some or 'none'}")
    return f"{url} has {model}"


def _of_status(url: str, model: str, status: int, message: str) -> str:
    if 300 <= status < 400:
        raise UserError(f"{url} sends on to another address (HTTP {status})", "name that one as `endpoint`")
    if status in (401, 403):
        raise UserError(f"the endpoint {url} refuses the key (HTTP {status})", "check the key and its rights")
    if status >= 500 and status not in _NOT_SERVED:
        told = f"the endpoint {url} does not answer as it should (HTTP {status}: {message})"
        raise UserError(told, "check that its server is up")
    return f"{url} answers and lists no models; {model} is not checked"
