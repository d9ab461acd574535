"""Tiers, what moving their thresholds does, and what each would keep."""
