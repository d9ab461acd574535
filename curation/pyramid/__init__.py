"""The only door to Lance: the store, tiers, queries, upkeep."""
