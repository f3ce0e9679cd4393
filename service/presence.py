"""Work for a caller, as long as the caller is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

T = TypeVar("T")


async def while_present(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await work, and give it up when the caller leaves.

    Args:
        request: whose body has been read wholly, so that nothing but the caller's leaving can come.
        work: what the caller waits for.

    Returns:
        Its result.

    Raises:
        ClientDisconnect: the caller has left.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _leaving(request: Request) -> None:
    """Await the caller's leaving."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
