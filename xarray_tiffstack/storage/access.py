"""How a server or a bucket is reached: ``storage_options``, and the store that obstore makes of it.

Options are spelled as fsspec and its packages (s3fs, gcsfs, adlfs) spell them, or as obstore does.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.storage.address import is_url, split
from xarray_tiffstack.storage.memory import Memory

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# How fsspec's packages call what obstore calls otherwise.
_NAMES = {
    "s3": {
        "key": "access_key_id", "secret": "secret_access_key", "token": "session_token",
        "anon": "skip_signature", "endpoint_url": "endpoint", "region_name": "region",
        "requester_pays": "request_payer",
    },
    "gs": {"anon": "skip_signature", "endpoint_url": "base_url"},
    "az": {"anon": "skip_signature", "sas_token": "sas_key", "credential": "account_key"},
    "http": {},
    "memory": {},
}  # fmt: skip
_NOT_OF_THE_STORE = ("client_options", "retry_config", "credential_provider")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_lock = threading.Lock()
_stores: dict[tuple[str, str], ObjectStore] = {}
_remembered: dict[str, Access] = {}


class Access:
    """How URLs are reached; travels to other processes, and is known there for the same URLs."""

    def __init__(
        self, options: Mapping[str, Any] | None = None, roots: tuple[str, ...] = ()
    ) -> None:
        if options is not None and not isinstance(options, Mapping):
            raise TypeError(f"storage_options is a mapping, not {type(options).__name__}")
        self.options = dict(options or {})
        self.roots = roots
        self.identity = repr(sorted(self.options.items()))
        for root in roots:
            _remembered[root] = self

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without connections."""
        return Access, (self.options, self.roots)

    def __repr__(self) -> str:
        """Name the options, and none of their values: some are secret."""
        return f"Access({', '.join(self.options)})"

    def remember(self, root: str) -> Access:
        """Have whatever asks for a URL below this one find it here."""
        return Access(self.options, (*self.roots, root))

    def named(self, kind: str) -> dict[str, Any]:
        """Options by the names that obstore has for them, for other clients of the same server."""
        found = _translated(kind, self.options)[0]
        said = [os.environ[name] for name in _ENDPOINTS if os.environ.get(name)]
        return {"endpoint": said[0], **found} if kind == "s3" and said else found

    def fsspec(self, kind: str) -> dict[str, Any]:
        """Options by the names that fsspec's packages have for them."""
        given = {n: v for n, v in self.options.items() if n not in _NOT_OF_THE_STORE}
        names = {own: their for their, own in _NAMES[kind].items() if own != "account_key"}
        found = {names.get(name, name): value for name, value in given.items()}
        if kind == "gs" and found.pop("anon", False):
            found["token"] = "anon"
        if kind == "s3" and "region_name" in found:
            region = {"region_name": found.pop("region_name")}
            found["client_kwargs"] = {**region, **found.get("client_kwargs", {})}
        return found

    def headers(self, kind: str) -> dict[str, str]:
        """Headers of each request, for other clients of the same server."""
        found: dict[str, str] = _translated(kind, self.options)[1]["client_options"].get(
            "default_headers", {}
        )
        return found

    def store(self, url: str) -> tuple[ObjectStore, str]:
        """Store that holds an object, and the key of the object there.

        Raises
        ------
        ImportError
            obstore is not installed.
        ValueError
            There is no such option.
        """
        kind, base, key = split(url)
        with _lock:
            need_obstore(url)
            store = _stores.get((base, self.identity))
            if store is None:
                store = _stores[base, self.identity] = _connect(kind, base, self.options)
        return store, key


def access_of(url: str) -> Access:
    """How a URL was reached when its source was opened."""
    at = url.rstrip("/")
    while is_url(at):
        if at in _remembered:
            return _remembered[at]
        at = at.rpartition("/")[0]
    return Access()


def need_obstore(url: str) -> None:
    """Say what to install where obstore is absent."""
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{url} is read by obstore, which is not installed: "
            'pip install "xarray-tiffstack[remote]"'
        ) from error


def _connect(kind: str, base: str, options: Mapping[str, Any]) -> Any:
    """Make a store; nothing is asked of its server."""
    from obstore import exceptions, store

    if kind == "memory":
        return Memory()
    config, about = _translated(kind, options)
    name = base.partition("://")[2]
    make: Any
    if kind == "s3":
        make, where = store.S3Store, {"bucket": name}
        if config.pop("profile", None) is not None:
            raise ValueError(_PROFILE)
    elif kind == "gs":
        make, where = store.GCSStore, {"bucket": name}
    elif kind == "az":
        container, _, host = name.partition("@")
        make, where = store.AzureStore, {"container_name": container}
        if host:
            where["account_name"] = host.partition(".")[0]
    else:
        make, where = store.HTTPStore.from_url, {"url": base}
        if config:
            raise ValueError(f"no storage_options of {base}: {', '.join(config)}")
    try:
        made: ObjectStore = make(**{**where, **config}, **about)
    except (exceptions.BaseError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise ValueError(f"storage_options of {base}: {said}") from error
    return made


_PROFILE = (
    "profile is not one of storage_options: give key and secret, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY"
)


def _translated(kind: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into those of the store and those of its connections, as obstore has them."""
    flat = dict(options)
    about = {name: flat.pop(name) for name in _NOT_OF_THE_STORE if name in flat}
    client = dict(about.pop("client_options", {}))
    nested = dict(flat.pop("client_kwargs", {}))
    if "headers" in flat or "headers" in nested:
        headers = {**flat.pop("headers", {}), **nested.pop("headers", {})}
        client["default_headers"] = {**client.get("default_headers", {}), **headers}
    flat = {**nested, **flat}
    config = {_NAMES[kind].get(name, name): value for name, value in flat.items()}
    config = {name: value for name, value in config.items() if value is not None}
    if kind == "gs":
        _google_token(config)
    if kind == "az" and "connection_string" in config:
        said = str(config.pop("connection_string")).split(";")
        parts = dict(part.split("=", 1) for part in said if "=" in part)
        names = {"AccountName": "account_name", "AccountKey": "account_key"}
        names |= {"SharedAccessSignature": "sas_key", "BlobEndpoint": "endpoint"}
        config |= {own: parts[their] for their, own in names.items() if their in parts}
    addresses = [config.get("endpoint"), config.get("base_url")]
    if kind == "s3" and not config.get("endpoint"):
        addresses += [os.environ.get(name) for name in _ENDPOINTS]
    if kind == "http" or any(str(each).startswith("http://") for each in addresses):
        client.setdefault("allow_http", True)
    return config, {**about, "client_options": client}


def _google_token(config: dict[str, Any]) -> None:
    """Take what gcsfs calls a token: "anon", a file, or what is in it."""
    token = config.pop("token", None)
    if token == "anon":
        config["skip_signature"] = True
    elif isinstance(token, Mapping):
        config["service_account_key"] = json.dumps(dict(token))
    elif token is not None:
        config["application_credentials"] = str(token)
