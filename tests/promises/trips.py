"""What sagas and rollbacks are tried on: steps with undos, which write down what they do."""

from tests.rules.colours import Colour


class Trip:
    """Steps with undos, of one colour, that write down what they do."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour
        self.done: list[str] = []
        self.undone: list[str] = []

        @colour.step
        def book(what: str) -> str:
            self.done.append(what)
            return f"booked {what}"

        @book.compensate
        def cancel(booked: str) -> None:
            self.undone.append(booked.removeprefix("booked "))

        @colour.step(attempts=1)
        def pay() -> str:
            return "paid"

        self.book, self.cancel, self.pay = book, cancel, pay
