# Two stages: build on Debian 12, run on its slim image as a user without rights. The RUN steps are the scripts that
# deploy/quickstart.sh and CI execute; building this image itself is untested.
FROM debian:12 AS build
WORKDIR /src
COPY deploy/install-deps.sh deploy/
RUN deploy/install-deps.sh
COPY . .
RUN cmake --preset release -DHYSPARSE_TESTS=OFF && cmake --build --preset release

FROM debian:12-slim
WORKDIR /opt/hysparse
COPY deploy/install-deps.sh deploy/
RUN deploy/install-deps.sh --runtime && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/build/release/bin/hysparse /usr/local/bin/hysparse
RUN useradd --system --uid 10001 --create-home hysparse
USER 10001
EXPOSE 8000 9000
ENTRYPOINT ["hysparse"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
