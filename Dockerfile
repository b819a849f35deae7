# The HTTP service, without torch: an API that cannot load a model cannot be talked into loading a hostile one, and its
# image carries no CUDA. The worker's image is Dockerfile.gpu.
#
# The distribution as a whole needs torch. Here its code is installed without its dependencies, and then every
# dependency of pyproject.toml except those that only core's mathematics use. The last step proves that this is enough.

FROM python:3.11-slim AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/encoder-audit
WORKDIR /build
COPY pyproject.toml constraints.txt ./

# Dependencies first: this layer is rebuilt only when they change.
RUN python -c "import re, tomllib; \
    mathematics = {'torch', 'torchvision', 'timm', 'safetensors', 'numpy', 'pillow', 'scikit-learn'}; \
    needed = tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']; \
    print(*(line for line in needed if re.match('[A-Za-z0-9-]+', line)[0] not in mathematics), sep='\n')" \
    > requirements-api.txt \
    && /opt/encoder-audit/bin/pip install -c constraints.txt -r requirements-api.txt

COPY README.md LICENSE ./
COPY api api
COPY core core
COPY worker worker
COPY migrations migrations
RUN /opt/encoder-audit/bin/pip install --no-deps .

# The server imports, and torch is not there.
RUN cd / && /opt/encoder-audit/bin/python -c "import importlib.util as u, api.server, api.storage.migrate; \
    found = [name for name in ('torch', 'timm', 'nvidia') if u.find_spec(name)]; \
    assert not found, found"


FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin audit \
    && install --directory --owner=audit --mode=0700 /var/lib/encoder-audit

COPY --from=build /opt/encoder-audit /opt/encoder-audit

# Uploads lie here while they arrive; mount a volume with room for the largest ones.
ENV PATH=/opt/encoder-audit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    UPLOAD_DIRECTORY=/var/lib/encoder-audit
VOLUME /var/lib/encoder-audit
USER 10001
WORKDIR /home/audit
EXPOSE 8000

# Ready means: database, broker and object storage answer, and the schema is this version's.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

ENTRYPOINT ["tini", "--"]
CMD ["python", "-P", "-m", "api.server", "--host", "0.0.0.0", "--port", "8000"]
