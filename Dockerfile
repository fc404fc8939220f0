# The OpenAI-compatible server with the shipped model, on a CPU:
#   docker build -t tatar-llm .
#   docker run --rm -p 127.0.0.1:8000:8000 tatar-llm
# A workspace of your own, with its best model:
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/workspace" tatar-llm serve --host 0.0.0.0
# --build-arg EXTRAS=serve,web adds the page for people (serve --web).

FROM python:3.12-slim AS build
ARG EXTRAS=serve
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tatar-llm
ENV PATH=/opt/tatar-llm/bin:$PATH
WORKDIR /source
COPY constraints.txt ./
# PyTorch's CPU build, a tenth of the size of the default one; the default where its index does not answer.
RUN torch="$(grep '^torch==' constraints.txt)" \
 && (pip install --retries 1 --index-url https://download.pytorch.org/whl/cpu "$torch" || pip install "$torch")
COPY pyproject.toml README.md LICENSE ./
COPY recipes recipes
COPY pretrained pretrained
COPY src src
RUN pip install -c constraints.txt ".[$EXTRAS]"

FROM python:3.12-slim
COPY --from=build /opt/tatar-llm /opt/tatar-llm
ENV PATH=/opt/tatar-llm/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 tatar && mkdir /workspace && chown tatar /workspace
USER tatar
WORKDIR /workspace
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["tatar-llm"]
CMD ["serve", "--host", "0.0.0.0", "--model", "shipped"]
