# Both commands and JupyterLab in a container, on the CPU:
#   docker build -t postlab .
#   docker run --rm -it -v postlab-runs:/postlab/runs postlab make stages
#   docker run --rm -it postlab make test
#   docker run --rm -it -v postlab-runs:/postlab/runs -p 127.0.0.1:8888:8888 postlab
# code_reward refuses to run a model's program here, unless Docker lets it create namespaces:
#   docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined ...
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

# Not root: with a user of its own, what it writes into a mounted folder is yours on most systems.
RUN useradd --create-home --uid 1000 learner && install -d -o learner -g learner /postlab
USER learner
WORKDIR /postlab
ENV POSTLAB_CONTAINER=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# First what the environment is made from, so that an edited notebook doesn't install it again.
COPY --chown=learner Makefile pyproject.toml README.md LICENSE requirements.lock requirements-nodeps.txt requirements-rehearsal.txt ./
COPY --chown=learner .ci .ci
COPY --chown=learner postlab postlab
COPY --chown=learner data data
RUN make setup PYTHON=python3 && mkdir runs

COPY --chown=learner . .
EXPOSE 8888
CMD ["make", "lab"]
