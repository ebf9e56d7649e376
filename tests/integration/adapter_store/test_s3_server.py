import io

import pytest
from minio.error import MinioException

from tests.s3_server import BUCKET


def test_what_was_put_outlives_a_kill(own_s3_server):
    client = own_s3_server.client()
    client.put_object(BUCKET, "a/b", io.BytesIO(b"bytes"), 5)
    own_s3_server.kill()
    own_s3_server.start()
    response = client.get_object(BUCKET, "a/b")
    try:
        assert response.data == b"bytes"
    finally:
        response.close()
        response.release_conn()
    assert own_s3_server.object_file("a/b").read_bytes() == b"bytes"


def test_a_wrong_secret_is_refused(s3_server):
    with pytest.raises(MinioException):
        s3_server.client(secret_key="another").bucket_exists(BUCKET)
