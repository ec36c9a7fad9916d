# docker build -t cnctl .                     CPU
# docker build -t cnctl:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# docker run --rm [--gpus all] -v "$PWD:/work" cnctl generate --cond canny photo.jpg -p "a cat"
FROM python:3.12-slim-trixie AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim-trixie
# CUDA's libraries come with torch's wheels; the host needs its driver alone.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0t64 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
ENV HOME=/cache HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
# Any user may run it: docker run --user.
RUN useradd --uid 1000 --home-dir /cache --no-create-home cnctl \
    && mkdir -p /cache /work && chmod 1777 /cache /work
USER cnctl
WORKDIR /work
ENTRYPOINT ["cnctl"]
CMD ["--help"]
