#!/bin/sh
# Writes what docker-compose.yml needs and nobody should choose by hand: .env and deploy/secrets/. Never overwrites.
set -eu
cd "$(dirname "$0")/.."
umask 077

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

mkdir -p deploy/secrets
if [ ! -e .env ]; then
  secret=$(random)
  cat > .env <<ENV
APP_ORIGIN=http://localhost:8080
PROVIDER_ORIGIN=http://127.0.0.1:8081
BFF_CLIENT_SECRET=$secret
KEYCLOAK_ADMIN_PASSWORD=$(random)
DEMO_PASSWORD=$(random)
ENV
  echo "wrote .env (the password of alice, bob and carol is DEMO_PASSWORD)"
fi
if [ ! -e deploy/secrets/client_secret ]; then
  sed -n 's/^BFF_CLIENT_SECRET=//p' .env | tr -d '\n' > deploy/secrets/client_secret
  echo "wrote deploy/secrets/client_secret"
fi
if [ ! -e deploy/secrets/keys.json ]; then
  python3 dev.py bff keys new --output "$PWD/deploy/secrets/keys.json"
fi
# The container's user (65532) must read these two; nobody else on this machine can enter the folder.
chmod 0444 deploy/secrets/client_secret deploy/secrets/keys.json
