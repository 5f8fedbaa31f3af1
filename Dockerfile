# The operator's image: one static binary on an empty base.
#
#   docker build --tag registry.example.com/kthena-bridge:v0.1.0 .
#
# The same image again, to the byte, from the same commit and the same base image:
#
#   docker buildx build --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
#     --output type=image,name=registry.example.com/kthena-bridge:v0.1.0,rewrite-timestamp=true,push=true .
#
# For several processors, add --platform=linux/amd64,linux/arm64: each is built on a machine, or an emulation, of its
# kind. Quicker than an emulation is to cross-compile; on Debian, with clang and with rust-lld of Rust's own folders:
#
#   CC_aarch64_unknown_linux_musl=clang CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
#     make image-binary TARGET=aarch64-unknown-linux-musl
#
# `make test-image-binary` tests the binary. Nothing tests this file.

# In step with rust-toolchain.toml. For builds to be the same, append the digest (@sha256:...) that you verified.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends musl-tools=1.2.3-1 \
 && rm -rf /var/lib/apt/lists/*
# Its path gets into the binary, see the Makefile.
ENV KTHENA_BRIDGE_CACHE=/tmp/kthena-bridge
WORKDIR /kthena-bridge
COPY . .
RUN make image-binary

FROM scratch
ARG VERSION=0.1.0
ARG REVISION
LABEL org.opencontainers.image.title="kthena-bridge" \
      org.opencontainers.image.description="Exposes Kthena Models through the cluster's Gateway" \
      org.opencontainers.image.source="https://github.com/kthena-bridge/kthena-bridge" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# For the requests of the condition Reachable to Gateways with certificates of public authorities. The API server's
# authority comes with the service account.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /kthena-bridge/LICENSE /LICENSE
COPY --from=build --chmod=0755 /kthena-bridge/target/image/kthena-bridge /kthena-bridge
# A number, since there is no /etc/passwd, and runAsNonRoot wants to see one.
USER 65532:65532
ENTRYPOINT ["/kthena-bridge"]
CMD ["run"]
