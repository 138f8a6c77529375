"""How icechunk reaches files and repositories: on a disk, in a bucket, or at a web server.

The words of ``storage_options`` are turned into those of icechunk. What is secret is never among
what icechunk writes into an index: keys go another way, and headers are left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from xarray_tiffstack.storage import access_of, is_url, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xarray_tiffstack.storage.address import Address

NAMES = {
    "s3": ("access_key_id", "secret_access_key", "session_token"),
    "gs": {
        "service_account_key": "service_account_key",
        "service_account": "service_account_file",
        "service_account_path": "service_account_file",
        "application_credentials": "application_credentials",
        "bearer_token": "bearer_token",
    },
    "az": {
        "account_key": "access_key", "access_key": "access_key", "sas_key": "sas_token",
        "sas_token": "sas_token", "bearer_token": "bearer_token", "token": "bearer_token",
    },
}  # fmt: skip
"""What icechunk calls the keys."""
PLACES = {
    "gs": {"base_url": "base_url"},
    "az": {"endpoint": "endpoint", "use_emulator": "use_emulator"},
}
"""What icechunk calls where a server is, and needs no secret."""
ACCOUNTS = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_ACCOUNT_NAME")


@dataclass(frozen=True)
class Container:
    """Where all files of an index are, in icechunk's words."""

    prefix: str
    """What their addresses begin with."""
    kept: Any
    """How they are reached, as the index says it to others."""
    used: Any
    """The same with what the index does not say, such as headers."""
    access: Any
    """What allows it."""


def container(icechunk: Any, root: str) -> Container:
    """Say how icechunk reaches the files below a folder or URL."""
    if not is_url(root):
        place = Path(root).as_posix()
        prefix = f"file://{place if place.startswith('/') else f'/{place}'}/"
        local = icechunk.local_filesystem_store(root)
        return Container(prefix, local, local, icechunk.credentials.LocalFileSystemAccess)
    address = split(root)
    kind, name = address.kind, address.base.partition("://")[2]
    if kind == "http":
        prefix = f"{root.partition('://')[0].lower()}://{name}/"
        opts, headers = _web(root)
        kept, used = icechunk.http_store(opts), icechunk.http_store(opts, headers)
        allowed: Any = icechunk.credentials.HttpAccess
    elif kind == "s3":
        prefix = f"s3://{name}/"
        options = _s3(root)
        words = (*NAMES["s3"], "anonymous", "from_env")
        keys = {word: options.pop(word) for word in words if word in options}
        options["anonymous"] = keys.get("anonymous", False)
        kept = used = icechunk.s3_store(**options, s3_compatible="endpoint_url" in options)
        allowed = icechunk.s3_credentials(**keys)
    elif kind == "gs":
        prefix = f"gs://{name}/"
        opts, keys = _google(root)
        kept = used = icechunk.gcs_store(opts)
        allowed = icechunk.gcs_credentials(**keys)
    elif kind == "az":
        prefix = f"az://{name.partition('@')[0]}/"
        opts, keys = _azure(root, address)
        kept = used = icechunk.ObjectStoreConfig.Azure(opts)
        allowed = icechunk.azure_credentials(**keys)
    else:
        raise ValueError(_IN_MEMORY.format(root))
    prefix += f"{address.key}/" if address.key else ""
    if kind != "http":
        (allowed,) = icechunk.containers_credentials({prefix: allowed}).values()
    return Container(prefix, kept, used, allowed)


_IN_MEMORY = (
    "{} is in the memory of this process, where no index is read from or refers to: save the files "
    "in a folder first, or convert with ds.tiffstack.to_ome_zarr (tiffstack convert)"
)


def storage(icechunk: Any, place: str) -> Any:
    """Give the storage of a repository in a local folder or at a URL."""
    if not is_url(place):
        return icechunk.local_filesystem_storage(place)
    address = split(place)
    name, key = address.base.partition("://")[2], address.key
    if address.kind == "s3":
        return icechunk.s3_storage(bucket=name, prefix=key, **_s3(place))
    if address.kind == "gs":
        opts, keys = _google(place)
        return icechunk.gcs_storage(bucket=name, prefix=key, config=opts, **keys)
    if address.kind == "az":
        opts, keys = _azure(place, address)
        account, inside = opts["account"], name.partition("@")[0]
        return icechunk.azure_storage(
            account=account, container=inside, prefix=key, config=opts, **keys
        )
    if address.kind == "http":
        opts, headers = _web(place)
        return icechunk.http_storage(f"{address.base}/{quote(key)}", opts, headers)
    raise ValueError(_IN_MEMORY.format(place))


def _s3(url: str) -> dict[str, Any]:
    """How a bucket is reached, in icechunk's words."""
    given = access_of(url).named("s3")
    region = given.get("region") or os.environ.get("AWS_REGION")
    found: dict[str, Any] = {"region": region or os.environ.get("AWS_DEFAULT_REGION", "us-east-1")}
    if endpoint := given.get("endpoint"):
        found["endpoint_url"] = endpoint
        found["allow_http"] = str(endpoint).startswith("http://")
        found["force_path_style"] = not _is_true(given.get("virtual_hosted_style_request"))
    if _is_true(given.get("request_payer")):
        found["requester_pays"] = True
    if _is_true(given.get("skip_signature")):
        found["anonymous"] = True
    elif given.get("access_key_id"):
        found |= {name: given[name] for name in NAMES["s3"] if given.get(name)}
    else:
        found["from_env"] = True
    return found


def _google(url: str) -> tuple[dict[str, str], dict[str, Any]]:
    """How a bucket of Google is reached, and the keys for it."""
    given = access_of(url).named("gs")
    return _places("gs", given), _keys("gs", given)


def _azure(url: str, address: Address) -> tuple[dict[str, str], dict[str, Any]]:
    """How a container of Azure is reached, and the keys for it."""
    given = access_of(url).named("az")
    host = address.base.partition("@")[2]
    said = [host.partition(".")[0], given.get("account_name"), *map(os.environ.get, ACCOUNTS)]
    account = next(filter(None, said), None)
    if account is None:
        raise ValueError(
            f"{url} does not say of which account it is: give it as account_name in "
            "storage_options=, or set AZURE_STORAGE_ACCOUNT_NAME"
        )
    return {"account": str(account), **_places("az", given)}, _keys("az", given)


def _web(url: str) -> tuple[dict[str, str], dict[str, str] | None]:
    """How a web server is reached, and the headers of each request."""
    headers = access_of(url).headers("http")
    return _plain([url]), {str(k): str(v) for k, v in headers.items()} or None


def _places(kind: str, given: Mapping[str, Any]) -> dict[str, str]:
    names = PLACES[kind]
    found = {names[name]: str(value) for name, value in given.items() if name in names}
    return {**found, **_plain(found.values())}


def _plain(urls: Iterable[str]) -> dict[str, str]:
    """Allow a server without encryption, where a URL says that it is one."""
    return {"allow_http": "true"} if any(url.startswith("http://") for url in urls) else {}


def _keys(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if _is_true(given.get("skip_signature")):
        return {"anonymous": True}
    names: Any = NAMES[kind]
    return {names[n]: str(v) for n, v in given.items() if n in names} or {"from_env": True}


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "1", "yes", "on", "requester")
