"""The admin API: keys, teams, tiers, prices, credits, nodes, aliases. First Postgres, the truth; then Redis."""
