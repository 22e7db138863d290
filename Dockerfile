# The image of asid-authz: one static binary and the CA certificates that key sets are
# fetched with, no shell, no user but a number. For the classic builder and BuildKit.
#
#   docker build -t asid-authz --build-arg VERSION=v1.2.3 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Where no registry can be reached, or another base is wanted: --build-arg GO_IMAGE=... --build-arg RUNTIME_IMAGE=...
ARG GO_IMAGE=golang:1.26
ARG RUNTIME_IMAGE=scratch

# Go compiles for every platform on the builder's own. The classic builder knows no
# BUILDPLATFORM, and takes "linux" for linux on what it runs on.
FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY authz authz
COPY cache cache
COPY cmd cmd
COPY envoy envoy
ARG VERSION=unknown
ARG TARGETOS
ARG TARGETARCH
# No path, no time and no repository in it: the same source gives the same bytes. The tag
# leaves out gRPC's tracing pages, which nothing serves, and with them a third of the binary.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags grpcnotrace -trimpath -buildvcs=false -ldflags "-s -w -X main.release=$VERSION" -o /asid-authz ./cmd/asid-authz

FROM ${RUNTIME_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="asid-authz" \
      org.opencontainers.image.description="Decides for Envoy whether an NHS accredited system may perform an interaction" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /asid-authz /asid-authz
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
# Envoy's questions, and the operators' port. The latter is of the loopback unless
# admin.address says otherwise.
EXPOSE 9001 9902
# It asks the default admin port, not the configuration: an edit of the file that the
# running service refuses must not make it look unwell. Whoever moves the port says so here too.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/asid-authz", "health"]
ENTRYPOINT ["/asid-authz"]
CMD ["serve", "--config", "/etc/asid-authz/asid-authz.yaml"]
