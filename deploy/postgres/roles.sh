# Makes the gateway's users in Postgres. The official image runs it when it makes its data directory (it is mounted in
# /docker-entrypoint-initdb.d); by hand it may be run at any time and again, with new passwords for example:
#
#   docker compose exec postgres sh /docker-entrypoint-initdb.d/roles.sh
#
# On a hosted Postgres (Supabase, RDS, ...) run it where psql is, as the user that the host gave you, which may make
# roles, at a direct or session address. The database is one that is there, and stays its owner's:
#
#   SECRETS=./secrets GATEWAY_DATABASE=postgres \
#       PGHOST=db.example.org PGPORT=5432 PGUSER=postgres PGPASSWORD=... sh deploy/postgres/roles.sh
#
#   user            may                                           is for
#   gateway_owner   change the schema; the tables are its own     llm-gateway migrate, backups
#   gateway         what the group gateway_app may                replicas
#   worker          what the group gateway_worker may             workers
#   dashboard       what dashboard_reader may: read views, no more   Grafana
#
# None is a superuser or may make roles. What the groups may do is said by the migrations.
#
# A replica opens 10 connections at most (8 for the admin API, 2 for keys that ask what they have used), a worker 7,
# migrate 1; all only when they are needed, and for a minute. The limits below are room for 12 replicas and 6 workers,
# of which an update runs old and new side by side. max_connections has to be their sum and some for superusers:
# 120 + 42 + 10 + 5 = 177, so 200.

gateway_roles() {
    set -eu
    secrets=${SECRETS:-/run/secrets}
    export secrets
    for user in owner gateway worker dashboard; do
        [ -s "$secrets/postgres_${user}_password" ] && continue
        echo "roles.sh: $secrets/postgres_${user}_password is missing or empty: run deploy/make-secrets." >&2
        return 1
    done
    psql --no-psqlrc --quiet --output /dev/null --set ON_ERROR_STOP=1 \
        --username "${PGUSER:-${POSTGRES_USER:-postgres}}" --dbname "${PGDATABASE:-postgres}" \
        --set database="${GATEWAY_DATABASE:-gateway}" \
        --set owner_connections="${OWNER_CONNECTIONS:-5}" \
        --set gateway_connections="${GATEWAY_CONNECTIONS:-120}" \
        --set worker_connections="${WORKER_CONNECTIONS:-42}" \
        --set dashboard_connections="${DASHBOARD_CONNECTIONS:-10}" <<'SQL'
SET client_min_messages = warning;
SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user \gset
\if :superuser
    -- Whatever this server logs of statements: not these.
    SET log_statement = 'none';
    SET log_min_duration_statement = -1;
    SET log_min_error_statement = 'panic';
\endif

-- psql reads the passwords, and hands them over as settings of this session: so they are no part of an argument, nor of
-- a statement that changes a role, which pg_stat_statements would keep as it is.
\set owner_password `cat "$secrets/postgres_owner_password"`
\set gateway_password `cat "$secrets/postgres_gateway_password"`
\set worker_password `cat "$secrets/postgres_worker_password"`
\set dashboard_password `cat "$secrets/postgres_dashboard_password"`
SELECT set_config('password_of.gateway_owner', :'owner_password', false),
       set_config('password_of.gateway', :'gateway_password', false),
       set_config('password_of.worker', :'worker_password', false),
       set_config('password_of.dashboard', :'dashboard_password', false);

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['gateway_app', 'gateway_worker', 'dashboard_reader', 'gateway_owner', 'gateway', 'worker',
                                'dashboard'] LOOP
        IF to_regrole(role) IS NULL THEN EXECUTE format('CREATE ROLE %I NOLOGIN', role); END IF;
    END LOOP;
    FOREACH role IN ARRAY ARRAY['gateway_owner', 'gateway', 'worker', 'dashboard'] LOOP
        BEGIN
            EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', role, current_setting('password_of.' || role));
        EXCEPTION WHEN OTHERS THEN  -- told without its context, which has the statement with the password
            RAISE EXCEPTION 'the password of % cannot be set: %', role, SQLERRM;
        END;
    END LOOP;
END
$$;

GRANT gateway_app TO gateway;
GRANT gateway_worker TO worker;
GRANT dashboard_reader TO dashboard;

-- What the programs say for each transaction is shorter; this is for what they forget, and for people.
ALTER ROLE gateway_owner CONNECTION LIMIT :owner_connections;
ALTER ROLE gateway_owner SET idle_in_transaction_session_timeout = '5min';
ALTER ROLE gateway CONNECTION LIMIT :gateway_connections;
ALTER ROLE gateway SET statement_timeout = '30s';
ALTER ROLE gateway SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE worker CONNECTION LIMIT :worker_connections;
ALTER ROLE worker SET statement_timeout = '2min';
ALTER ROLE worker SET idle_in_transaction_session_timeout = '1min';
ALTER ROLE dashboard CONNECTION LIMIT :dashboard_connections;
ALTER ROLE dashboard SET statement_timeout = '30s';
ALTER ROLE dashboard SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE dashboard SET default_transaction_read_only = on;

\if :superuser
    SELECT format('CREATE DATABASE %I ENCODING ''UTF8'' TEMPLATE template0', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
    ALTER DATABASE :"database" OWNER TO gateway_owner;
    REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
    REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
\endif
GRANT CONNECT, CREATE ON DATABASE :"database" TO gateway_owner;
GRANT CONNECT ON DATABASE :"database" TO gateway, worker, dashboard;
\connect :"database"
GRANT USAGE, CREATE ON SCHEMA public TO gateway_owner WITH GRANT OPTION;
\if :superuser
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
\endif
SQL
}

# In a shell of its own: the image's own script reads this file as a part of itself.
(gateway_roles)
