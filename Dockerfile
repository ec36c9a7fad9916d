# docker build -t cnctl .                     CPU
# docker build -t cnctl:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
# docker run --rm [--gpus all] -v "$PWD:/work" cnctl generate --cond canny photo.jpg -p "a cat"
FROM python:3.12-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
# CUDA's libraries come with torch's wheels; the host needs its driver alone.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX"
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl && rm -r /wheels
ENV HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
RUN mkdir -p /cache /work && chmod 1777 /cache /work
WORKDIR /work
ENTRYPOINT ["cnctl"]
CMD ["--help"]
