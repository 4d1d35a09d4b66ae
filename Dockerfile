# The images of browserfleet: `mcp-frontend`, `pool-daemon`, and `browserfleet`, which is both in one process.
#
#   docker build --target mcp-frontend -t browserfleet/mcp-frontend .
#
# Bases can be taken by digest, or from elsewhere: --build-arg DEBIAN=debian@sha256:… Programs that are in target/release
# already need not be compiled again: --build-arg PROGRAMS=built.

ARG RUST=rust:1.95-slim-bookworm
ARG DEBIAN=debian:12-slim
ARG DISTROLESS=gcr.io/distroless/cc-debian12:nonroot
ARG PROGRAMS=compile

FROM ${RUST} AS compile
WORKDIR /src
# The image needs no names of lines; the programs are a sixth of the size without them.
ENV CARGO_PROFILE_DIST_DEBUG=false CARGO_PROFILE_DIST_STRIP=symbols
# SQLite and ring have C in them.
RUN apt-get update \
  && apt-get install -y --no-install-recommends gcc libc6-dev \
  && rm -rf /var/lib/apt/lists/*
# Dependencies first, from the manifests alone: this layer stays as it is until one of them changes. The compiler is the base's,
# not the one that rust-toolchain.toml would fetch.
COPY Cargo.toml Cargo.lock ./
COPY crates/browserfleet/Cargo.toml crates/browserfleet/
COPY crates/cdp/Cargo.toml crates/cdp/
COPY crates/common/Cargo.toml crates/common/
COPY crates/mcp-frontend/Cargo.toml crates/mcp-frontend/
COPY crates/pool-daemon/Cargo.toml crates/pool-daemon/
COPY crates/tools/Cargo.toml crates/tools/
COPY tests/Cargo.toml tests/
COPY bench/Cargo.toml bench/
COPY deploy/image/only-manifests.sh deploy/image/
RUN deploy/image/only-manifests.sh \
  && cargo build --profile dist --locked -p browserfleet -p browserfleet-mcp-frontend -p browserfleet-pool-daemon
COPY proto proto
COPY crates crates
# Cargo goes by times, and our files may be older than the empty ones were.
RUN find crates proto -type f -exec touch {} + \
  && cargo build --profile dist --locked -p browserfleet -p browserfleet-mcp-frontend -p browserfleet-pool-daemon \
  && mkdir /programs \
  && cp target/dist/browserfleet target/dist/mcp-frontend target/dist/pool-daemon /programs/

# Programs that somebody has built, for the bases' C library or an older one.
FROM scratch AS built
COPY target/release/browserfleet target/release/mcp-frontend target/release/pool-daemon /programs/

# Variables choose a stage here only, not in COPY.
FROM ${PROGRAMS} AS programs

# Chromium with the libraries and fonts that pages need: Latin, CJK, emoji. Renewed as Debian renews Chromium: build it again
# with --no-cache-filter chromium at least weekly.
FROM ${DEBIAN} AS chromium
RUN apt-get update \
  && apt-get install -y --no-install-recommends \
    ca-certificates \
    chromium-headless-shell \
    fonts-liberation \
    fonts-noto-cjk \
    fonts-noto-color-emoji \
    tini \
  && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /usr/share/doc/* /usr/share/man/* \
  && useradd --uid 65532 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin nonroot
# A user of nobody else, as in the distroless bases. Browsers have it, too: only root could give each one of its own.
USER 65532:65532
ENV BROWSERFLEET_LOG__FORMAT=json

FROM chromium AS pool-daemon
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="browserfleet pool-daemon" \
  org.opencontainers.image.description="Owns Chromium browsers and leases them to browserfleet's front ends over gRPC" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"
COPY --from=programs /programs/pool-daemon /usr/local/bin/
ENV BROWSERFLEET_DAEMON__LISTEN=0.0.0.0:50051 BROWSERFLEET_DAEMON__ADMIN_LISTEN=0.0.0.0:50052
EXPOSE 50051 50052
# It lives: whoever restarts what does not must not do so because Redis is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["pool-daemon", "--probe", "health"]
# Process 1 adopts what Chromium's helpers leave behind when they outlive the daemon itself.
ENTRYPOINT ["tini", "--", "pool-daemon"]

FROM chromium AS browserfleet
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="browserfleet" \
  org.opencontainers.image.description="Browsers for AI agents: an MCP server whose sessions are isolated Chromium processes" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"
COPY --from=programs /programs/browserfleet /usr/local/bin/
ENV BROWSERFLEET_HTTP__LISTEN=0.0.0.0:8931
EXPOSE 8931
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["browserfleet", "probe", "health"]
ENTRYPOINT ["tini", "--", "browserfleet"]
CMD ["serve"]

# Nothing but the program, its C library and certificates: no shell, no packages.
FROM ${DISTROLESS} AS mcp-frontend
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="browserfleet mcp-frontend" \
  org.opencontainers.image.description="Stateless MCP front end: AI agents reach browserfleet's browsers through it" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"
COPY --from=programs /programs/mcp-frontend /usr/local/bin/
USER 65532:65532
ENV BROWSERFLEET_LOG__FORMAT=json BROWSERFLEET_HTTP__LISTEN=0.0.0.0:8931
EXPOSE 8931
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/mcp-frontend", "--probe", "health"]
ENTRYPOINT ["/usr/local/bin/mcp-frontend"]
