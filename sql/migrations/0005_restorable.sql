-- pg_restore runs with an empty search path, so checks and triggers have to find what they call by themselves: without
-- this no backup of tiers, keys and teams could be read back.
ALTER FUNCTION model_limits_valid(jsonb) SET search_path = public, pg_temp;
ALTER FUNCTION limits_valid(jsonb) SET search_path = public, pg_temp;
ALTER FUNCTION networks_valid(text[]) SET search_path = public, pg_temp;
ALTER FUNCTION api_key_secrets_changed() SET search_path = public, pg_temp;
ALTER FUNCTION tiers_changed() SET search_path = public, pg_temp;
ALTER FUNCTION prices_changed() SET search_path = public, pg_temp;
ALTER FUNCTION fleet_changed() SET search_path = public, pg_temp;
