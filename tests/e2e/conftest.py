import sys

import grpc
import pytest
from grpc_tools import protoc

from server_process import MODEL, ROOT, Server


@pytest.fixture(scope="session")
def server():
    """The model behind the real binary, shared by the suite; short steps, so that prompts can be left in the middle."""
    with Server(MODEL, "--kv-cache-memory", "1GiB", "--max-num-seqs", "32", "--max-num-batched-tokens", "256") as running:
        yield running
        assert running.process.poll() is None, running.log  # it lived through everything


@pytest.fixture(scope="session")
def client(server):
    return server.client()


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture(scope="session")
def contract(tmp_path_factory):
    """(messages, stubs) generated from the committed contract, as any Python client would."""
    out = tmp_path_factory.mktemp("contract")
    proto = str(ROOT / "proto")
    status = protoc.main(["protoc", f"-I{proto}", f"--python_out={out}", f"--grpc_python_out={out}", "hysparse/v1/inference.proto"])
    assert status == 0
    sys.path.insert(0, str(out))
    from hysparse.v1 import inference_pb2, inference_pb2_grpc

    return inference_pb2, inference_pb2_grpc


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.grpc) as open_channel:
        yield open_channel
