"""Commands that ask a pyramid: its clips and videos, its tiers, its runs; and what a run would do to it."""
