# One image for our processes: `gateway`, `adapter`, `controller`, `onnx` (the built-in model server) and the rest of the
# command line. Envoy has its own image. The sources run as they are: there is nothing to compile.
FROM node:26.10-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# Node comes with the image, so the optional packages that carry it are left out; no package runs a script.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund \
  && find node_modules \( -name '*.map' -o -name '*.md' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete

FROM node:26.10-bookworm-slim
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY package.json ./
COPY core core
COPY platform platform
COPY proto proto
COPY envoy envoy
COPY xds xds
COPY gateway gateway
COPY adapters adapters
COPY runtimes runtimes
COPY controller controller
COPY cli cli
# Memory of an unloaded model goes back to the system.
ENV NODE_ENV=production MALLOC_TRIM_THRESHOLD_=131072
USER 1000:1000
ENTRYPOINT ["node", "/app/cli/container.mjs"]
