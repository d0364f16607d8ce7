# CPU development image:  docker build -t tvm-prune . && docker run --rm -it -v "$PWD/runs:/home/dev/tvm_prune/runs" tvm-prune
FROM python:3.11-slim

# g++ links what the compiler builds; make drives the targets; git lets a developer commit from inside.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home dev
USER dev
WORKDIR /home/dev/tvm_prune
ENV PATH=/home/dev/tvm_prune/.venv/bin:$PATH

# Requirements first, so that a change of the sources does not install torch and the compiler again.
COPY --chown=dev setup.py pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY --chown=dev tvm_prune/__init__.py tvm_prune/__init__.py
COPY --chown=dev relay_passes/__init__.py relay_passes/__init__.py
RUN make install

COPY --chown=dev . .
CMD ["bash"]
