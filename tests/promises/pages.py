"""Steps that read and write pages, one of each colour."""

from flowkit import step


@step
async def load(page: str) -> str:
    """A step."""
    return f"page {page}"


@step
def save(page: str) -> str:
    """Another one, of the other colour."""
    return f"saved {page}"


async def two_pages(book: str) -> list[str]:
    """A helper that calls several steps."""
    first = await load(f"{book}1")
    return [first, await load(f"{book}2")]
