"""The admin API: keys, teams, tiers, prices, credits. Postgres first, which is the truth, then Redis."""
