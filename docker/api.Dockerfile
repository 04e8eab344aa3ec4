# The API and the command line, without torch, models and servers: `docker build -f docker/api.Dockerfile .`
FROM python:3.12-slim AS build
WORKDIR /source
RUN python -m venv /venv
COPY pyproject.toml constraints.txt README.md ./
COPY schema schema
COPY prompts prompts
COPY workers workers
COPY service service
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
RUN groupadd --gid 10001 glossarium \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin glossarium \
 && install --directory --owner 10001 --group 10001 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
CMD ["uvicorn", "service.app:start", "--factory", "--http", "service.patience:Patient", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--timeout-graceful-shutdown", "3"]
