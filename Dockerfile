# The SDXL app in a container: slim, not root. Build arguments choose the torch build:
#   docker build -t streamapp .                                                        torch as published, CUDA included
#   docker build -t streamapp --build-arg TORCH="torch==2.13.0+cpu" \
#     --build-arg TORCH_INDEX=<PyTorch's CPU wheel index> .                            CPU only
#   docker build -t streamapp --build-arg TORCH="torch==2.15.0" .                      another version
# Run:
#   docker run -p 8000:8000 --gpus all -e STREAMAPP_API_KEY=... streamapp
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY src src
COPY client_sdk/python client_sdk/python
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
RUN make install-runtime VENV=/opt/streamapp TORCH="${TORCH}" TORCH_INDEX="${TORCH_INDEX}"

FROM ${PYTHON_IMAGE}
RUN useradd --create-home --uid 10001 streamapp
COPY --from=build /opt/streamapp /opt/streamapp
COPY apps /home/streamapp/apps
WORKDIR /home/streamapp
USER 10001
ENV PATH=/opt/streamapp/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=300s --timeout=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/_streamapp/health', timeout=4)"]
CMD ["streamapp", "serve", "apps/sdxl/app.py:Sdxl", "--host", "0.0.0.0", "--port", "8000"]
