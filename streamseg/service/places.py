"""The places of a server: so many sessions and connections fit at a time, those that wait for their client included."""

from __future__ import annotations

from streamseg.errors import OverloadedError

RETRY_AFTER_S = 5.0


class Places:
    """``most`` of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0


class Place:
    """One of the places, once it is taken."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._held = False

    @property
    def held(self) -> bool:
        return self._held

    def take(self) -> None:
        """Take it, unless it is taken already; raises OverloadedError if there is none left."""
        places = self._places
        if self._held:
            return
        if places.taken >= places.most:
            raise OverloadedError(
                f"all {places.most} connections of this server are taken; try again later", retry_after_s=RETRY_AFTER_S
            )
        places.taken += 1
        self._held = True

    def give_back(self) -> None:
        """Leave it to others, if it is taken."""
        self._places.taken -= self._held
        self._held = False

    def inherit(self, other: Place) -> None:
        """Get the place of ``other``, which then has none."""
        self.give_back()
        self._held, other._held = other._held, False

    def moved(self) -> Place:
        """Another one in its stead, for whoever stays longer."""
        other = Place(self._places)
        other.inherit(self)
        return other
