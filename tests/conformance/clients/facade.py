"""One face for the four clients of the package `tritonclient`, so that one case tries all of them.

Owns: the differences that do not matter to a case (awaiting, protobuf answers as documents). What a client cannot do stays an error.
"""
import asyncio

import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as grpc_aio_client
import tritonclient.http as http_client
import tritonclient.http.aio as http_aio_client
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException

MODULES = {"http": http_client, "grpc": grpc_client, "http.aio": http_aio_client, "grpc.aio": grpc_aio_client}
KINDS = list(MODULES)
loop = asyncio.new_event_loop()


def numbers(value):
    """A document with its int64, which protobuf writes as texts, as numbers."""
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


class Client:
    def __init__(self, kind, server, **options):
        self.kind, self.server = kind, server
        self.module = MODULES[kind]
        self.is_http = kind.startswith("http")
        self.is_aio = kind.endswith("aio")
        self.url = "127.0.0.1:%d" % (server.port if self.is_http else server.grpc_port)
        self.client = self.wait(self._make(options)) if self.is_aio else self.module.InferenceServerClient(self.url, **options)

    async def _make(self, options):
        return self.module.InferenceServerClient(self.url, **options)

    @staticmethod
    def wait(awaitable):
        return loop.run_until_complete(awaitable)

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **options):
            result = method(*arguments, **options)
            return self.wait(result) if self.is_aio else result
        return call

    def document(self, name, *arguments, **options):
        """The answer of a call as a document."""
        answer = getattr(self, name)(*arguments, **options)
        if hasattr(answer, "DESCRIPTOR"):
            answer = MessageToDict(answer, preserving_proto_field_name=True)
        return numbers(answer)

    def input(self, name, array, datatype, **options):
        """`binary` is for HTTP only: gRPC has one form."""
        result = self.module.InferInput(name, list(array.shape), datatype)
        if self.is_http:
            result.set_data_from_numpy(array, binary_data=options.get("binary", True))
        else:
            result.set_data_from_numpy(array)
        return result

    def output(self, name, binary=True, **options):
        return self.module.InferRequestedOutput(name, **({"binary_data": binary} if self.is_http else {}), **options)

    def output_shape(self, result, name):
        output = result.get_output(name)
        return list(output["shape"] if self.is_http else output.shape)

    def response(self, result):
        answer = result.get_response()
        return answer if self.is_http else MessageToDict(answer, preserving_proto_field_name=True)

    def close(self):
        result = self.client.close()
        if self.is_aio:
            self.wait(result)


def refused(function, *parts):
    """The exception with which a call is refused; its words hold `parts`."""
    try:
        function()
    except InferenceServerException as error:
        for part in parts:
            assert part in str(error), "%r is not in %r" % (part, str(error))
        return error
    raise AssertionError("the call succeeded, expected: %s" % (parts,))
