# Code Alpaca without a GPU: every stage, with the CPU build of torch.
#
#   docker build -t code-alpaca .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/runs:/workspace/runs" code-alpaca quickstart
#
# docs/get-started.md, "I want to run it in Docker", explains volumes, keys and the sandbox.

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu '.[all]'

FROM python:3.11.13-slim-bookworm
# bubblewrap confines programs, node runs those in JavaScript, g++ compiles DeepSpeed's extensions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap g++ nodejs \
    && rm -rf /var/lib/apt/lists/*
# Writable for any user, so that --user works and files in a mounted folder belong to that user.
RUN install -d -m 1777 /workspace /home/alpaca /home/alpaca/.cache /home/alpaca/.cache/huggingface
COPY --from=build /opt/venv /opt/venv
ENV HOME=/home/alpaca \
    USER=alpaca \
    HF_HOME=/home/alpaca/.cache/huggingface \
    PATH=/opt/venv/bin:$PATH
WORKDIR /workspace
USER 1000:1000
VOLUME /home/alpaca/.cache/huggingface
ENTRYPOINT ["code-alpaca"]
CMD ["--help"]
