# Build with `bash containers/build.sh`, which passes BASE_IMAGE from containers/versions.env.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}

WORKDIR /opt/cosmos-nemo
COPY pyproject.toml README.md LICENSE ./
COPY containers/install.py containers/install.py
COPY cosmos_nemo cosmos_nemo
COPY data_prep data_prep
COPY recipes recipes
# Keeps the image's torch, Transformer Engine and other CUDA builds, or fails.
RUN python containers/install.py . && cosmos-nemo doctor --no-device

WORKDIR /workspace
