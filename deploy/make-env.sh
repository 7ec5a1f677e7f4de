#!/bin/sh
# Makes what docker-compose.yml asks for: .env with fresh secrets, the first administrator, and an authority with a
# certificate for the broker. Run once; it refuses to overwrite. Needs openssl.
#   ./deploy/make-env.sh [HOST]     HOST: the name or address by which clients and agents reach this machine (localhost)
#   ./deploy/make-env.sh agent [ENDPOINT_ID]     adds the agent's identity to a .env that has none; the id of its endpoint
set -eu
cd "$(dirname "$0")/.."
secret() { openssl rand -hex 32; }
uuid() {
  hex=$(openssl rand -hex 16)
  variant=$(printf '%x' $((0x$(printf %s "$hex" | cut -c17) & 3 | 8)))
  printf '%s-%s-4%s-%s%s-%s\n' "$(printf %s "$hex" | cut -c1-8)" "$(printf %s "$hex" | cut -c9-12)" \
    "$(printf %s "$hex" | cut -c14-16)" "$variant" "$(printf %s "$hex" | cut -c18-20)" "$(printf %s "$hex" | cut -c21-32)"
}

# The identity of the agent: it may serve its endpoint and do nothing else.
make_agent() {
  agent_id=$(uuid)
  agent_secret=$(secret)
  printf '{ "client_id": "%s", "client_secret": "%s", "endpoint_id": "%s" }\n' "$agent_id" "$agent_secret" "$1" > deploy/secrets/agent.json
  chmod 644 deploy/secrets/agent.json
  printf 'AGENT_CLIENT_ID=%s\nAGENT_CLIENT_SECRET=%s\nAGENT_ENDPOINT_ID=%s\n' "$agent_id" "$agent_secret" "$1" >> .env
}

if [ "${1:-}" = agent ]; then
  [ -e .env ] || { echo "There is no .env yet; run ./deploy/make-env.sh first." >&2; exit 1; }
  ! grep -q '^AGENT_CLIENT_ID=' .env || { echo "The agent has its identity already." >&2; exit 1; }
  make_agent "${2:-$(uuid)}"
  echo "Made the identity of the agent. Next: docker compose up -d --build"
  exit
fi
host=${1:-localhost}

if [ -e .env ]; then
  echo "There is a .env already. Remove it, deploy/tls and deploy/secrets to begin anew; the data volumes then need to go too." >&2
  exit 1
fi
command -v openssl >/dev/null || { echo "openssl is needed; install it and run this again." >&2; exit 1; }

# The folders are private; the files in them are mounted one by one into containers, whose users must be able to read them.
umask 022
mkdir -p deploy/tls deploy/secrets
chmod 700 deploy/tls deploy/secrets

case $host in
  *[!0-9.]*) name="DNS:$host" ;;
  *) name="IP:$host" ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n' > "$work/ca.ext"
printf 'basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=%s,DNS:localhost,DNS:rabbitmq,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n' "$name" > "$work/server.ext"
openssl ecparam -name prime256v1 -genkey -noout -out "$work/ca.key"
openssl req -new -key "$work/ca.key" -subj "/CN=funcX authority of $host" -out "$work/ca.csr"
openssl x509 -req -in "$work/ca.csr" -signkey "$work/ca.key" -days 3650 -sha256 -extfile "$work/ca.ext" -out deploy/tls/ca.pem 2>/dev/null
openssl ecparam -name prime256v1 -genkey -noout -out "$work/sec1.key"
openssl pkcs8 -topk8 -nocrypt -in "$work/sec1.key" -out deploy/tls/server.key
openssl req -new -key deploy/tls/server.key -subj "/CN=$host" -out "$work/server.csr"
openssl x509 -req -in "$work/server.csr" -CA deploy/tls/ca.pem -CAkey "$work/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
  -days 800 -sha256 -extfile "$work/server.ext" -out deploy/tls/server.pem 2>/dev/null
chmod 644 deploy/tls/*

id=$(uuid)
client_secret=$(secret)
printf '{ "client_id": "%s", "client_secret": "%s", "name": "admin" }\n' "$id" "$client_secret" > deploy/secrets/identity.json
chmod 644 deploy/secrets/identity.json

umask 077
cat > .env <<ENV
PUBLIC_HOST=$host
POSTGRES_PASSWORD=$(secret)
TEMPORAL_DB_PASSWORD=$(secret)
RABBITMQ_PASSWORD=$(secret)
FUNCX_TOKEN_KEY=$(secret)
FUNCX_CLIENT_ID=$id
FUNCX_CLIENT_SECRET=$client_secret
ENV
make_agent "$(uuid)"
echo "Made .env, deploy/tls and deploy/secrets for $host. Next: docker compose up -d --build"
