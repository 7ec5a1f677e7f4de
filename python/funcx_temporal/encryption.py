"""Encrypts the payloads of a Python worker or client in the same format as the service. Needs `temporalio` and `cryptography`.

    converter = dataclasses.replace(temporalio.converter.default(), payload_codec=EncryptionCodec())
    client = await Client.connect(address, data_converter=converter)
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING = b"binary/encrypted"
KEY_ID = "encryption-key-id"
NONCE_BYTES = 12


def read_keys(path):
    """Returns the keys by ID, in the order of the file. Each line has an ID and 64 hex digits."""
    with open(path) as file:
        lines = [line.split() for line in file if line.strip() and not line.lstrip().startswith("#")]
    return {key_id: bytes.fromhex(key) for key_id, key in lines}


class EncryptionCodec(PayloadCodec):
    """The first key of the file encrypts; all keys decrypt. Unencrypted payloads are read unchanged."""

    def __init__(self, keys_file=None):
        self._keys = read_keys(keys_file or os.environ["FUNCX_PAYLOAD_KEYS_FILE"])
        self._current = next(iter(self._keys))

    async def encode(self, payloads):
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads):
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload):
        nonce = os.urandom(NONCE_BYTES)
        data = AESGCM(self._keys[self._current]).encrypt(nonce, payload.SerializeToString(), None)
        return Payload(metadata={"encoding": ENCODING, KEY_ID: self._current.encode()}, data=nonce + data)

    def _decrypt(self, payload):
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        key_id = payload.metadata[KEY_ID].decode()
        if key_id not in self._keys:
            raise ValueError(f'a payload is encrypted with the key "{key_id}", which is not in the key file')
        nonce, data = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
        try:
            return Payload.FromString(AESGCM(self._keys[key_id]).decrypt(nonce, data, None))
        except InvalidTag:
            raise ValueError(
                f'a payload is encrypted with the key "{key_id}", but the key file has a different key with this ID'
            ) from None
