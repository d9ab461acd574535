"""A budget is not overrun by what is in the air, and is the run's whoever uses it."""

from __future__ import annotations

import asyncio

import pytest

from curation.caption.budget import Budget, Limits, UsedUpError


class Purse:
    def __init__(self, used: tuple[int, int] = (0, 0)) -> None:
        self.used = used

    def __call__(self, tokens_in: int, tokens_out: int) -> tuple[int, int]:
        self.used = self.used[0] + tokens_in, self.used[1] + tokens_out
        return self.used


def test_requests_in_the_air_hold_back_what_they_may_cost() -> None:
    async def work() -> tuple[int, int]:
        purse, most = Purse(), 0
        budget = Budget(Limits(tokens=1000), 100, purse)

        async def one() -> bool:
            nonlocal most
            try:
                await budget.begin()
            except UsedUpError:
                return False
            await asyncio.sleep(0)
            await budget.end(20, 80)
            most = max(most, sum(purse.used))
            return True

        await budget.begin()
        await budget.end(20, 80)  # from now on it knows how long a prompt is
        done = await asyncio.gather(*(one() for _ in range(50)))
        assert budget.is_spent
        return sum(done), most

    done, most = asyncio.run(work())
    assert most <= 1000 and done == 8, "what is left over would not have been enough for one more"


def test_a_waiting_request_goes_ahead_where_another_cost_less_than_it_might() -> None:
    async def work() -> None:
        budget = Budget(Limits(tokens=150), 100, Purse())
        await budget.begin()
        waiting = asyncio.create_task(budget.begin())
        await asyncio.sleep(0)
        assert not waiting.done()
        await budget.release()
        await waiting

    asyncio.run(work())


def test_money_is_counted_by_both_prices() -> None:
    limits = Limits(usd=1.0, usd_in=1.0, usd_out=10.0)
    assert limits.cost(500_000, 50_000) == pytest.approx(1.0)
    assert limits.allow(500_000, 50_000) and not limits.allow(500_000, 50_100)
    assert Limits(tokens=5).cost(1, 1) is None


def test_a_worker_that_comes_after_another_goes_on_with_what_is_left() -> None:
    async def work() -> None:
        assert Budget(Limits(tokens=1000), 100, Purse((0, 950))).is_spent
        budget = Budget(Limits(tokens=1000), 100, Purse((0, 850)))
        await budget.begin()
        await budget.lost()
        with pytest.raises(UsedUpError):
            await budget.begin()

    asyncio.run(work())


def test_without_a_budget_nothing_is_bounded() -> None:
    async def work() -> None:
        budget = Budget(Limits(), 100, Purse((10**9, 10**9)))
        assert not budget.is_spent
        await budget.begin()
        await budget.lost()

    asyncio.run(work())
