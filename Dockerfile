# CPU development image:  docker build -t tvm-prune . && docker run --rm -it -v tvm-prune-runs:/home/dev/tvm_prune/runs tvm-prune
FROM python:3.11-slim

# g++ links what the compiler builds; make drives the targets.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home dev
USER dev
WORKDIR /home/dev/tvm_prune
ENV PATH=/home/dev/tvm_prune/.venv/bin:$PATH

# Requirements first, so that a change of the sources does not install torch and the compiler again.
COPY --chown=dev setup.py pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY --chown=dev tvm_prune/__init__.py tvm_prune/__init__.py
COPY --chown=dev relay_passes/__init__.py relay_passes/__init__.py
# Compiled once in the image, not anew in every container.
RUN make install PIP_OPTIONS=

COPY --chown=dev . .
# A volume mounted here takes over the owner of the folder.
RUN mkdir runs
CMD ["bash"]
