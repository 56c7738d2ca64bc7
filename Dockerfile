# Two images from one source: `docker build --target operator .` and `docker build --target detector .`
# Both run as an ordinary user on a read-only root; everything that they write goes to mounted volumes and /tmp.
ARG PYTHON=3.12

# The full image has the C compiler that the detector's kernel is built with.
FROM python:${PYTHON} AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.lock requirements/
RUN pip install --require-hashes -r requirements/build.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY operator operator
COPY detector detector
COPY devcluster devcluster
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS install
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/anomaly

# The dependencies come before our own code, so that a change of it does not fetch them again.
FROM install AS install-operator
COPY requirements/operator.lock /tmp/
RUN /opt/anomaly/bin/pip install --require-hashes -r /tmp/operator.lock
COPY --from=wheel /wheels /wheels
RUN /opt/anomaly/bin/pip install --no-deps /wheels/*.whl

FROM install AS install-detector
COPY requirements/detector.lock /tmp/
RUN /opt/anomaly/bin/pip install --require-hashes -r /tmp/detector.lock
COPY --from=wheel /wheels /wheels
RUN /opt/anomaly/bin/pip install --no-deps /wheels/*.whl

FROM python:${PYTHON}-slim AS runtime
ENV PATH=/opt/anomaly/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 65532:65532
WORKDIR /

FROM runtime AS operator
COPY --from=install-operator /opt/anomaly /opt/anomaly
EXPOSE 8080
ENTRYPOINT ["anomaly-operator"]

FROM runtime AS detector
ENV MPLCONFIGDIR=/tmp/matplotlib MLFLOW_DISABLE_TELEMETRY=true
COPY --from=install-detector /opt/anomaly /opt/anomaly
EXPOSE 8080 8081 8082 9090
ENTRYPOINT ["anomaly-detector"]
