# One image for every process of the pipeline; the command chooses (see docker-compose.yml).
# Health is asked of each process in its own way, so there is no HEALTHCHECK here.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Everything in the lock, checked by hash; a layer of its own, since it changes seldom. Then the
# project takes from it what it depends on: tools and private servers stay out of the image.
COPY requirements.lock ./
RUN pip download --require-hashes --no-deps --requirement requirements.lock --dest /wheels
COPY . .
RUN pip install --no-index --find-links /wheels '.[web,otel]'

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/analytics analytics
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER analytics
WORKDIR /var/lib/analytics
CMD ["analytics", "--help"]
