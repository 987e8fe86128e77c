"""Countries of places from their coordinates, offline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fimp.errors import FIMPError

#: What a user should know of countries that were looked up.
NOTE = "the country of the nearest town (GeoNames), which is wrong for some places near borders and at sea"


def countries(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> list[str]:
    """The country of each place: that of the nearest town in the package ``reverse_geocode``.

    The package holds the towns of GeoNames with 1,000 inhabitants or more, and measures in degrees: errors are near
    borders, in empty country and across the dateline.

    Parameters
    ----------
    latitude, longitude
        Degrees, ``[N]``.

    Returns
    -------
    list of str
        N names in English; the two letters of ISO 3166 where the package knows no name.

    Raises
    ------
    FIMPError
        If the package is not installed.

    References
    ----------
    https://github.com/richardpenman/reverse_geocode, https://www.geonames.org
    """
    try:
        import reverse_geocode
    except ImportError as error:
        raise FIMPError(
            "--label country: there is no such column, and looking countries up needs the package reverse_geocode; "
            "pip install 'fimp[country]', or add the column"
        ) from error
    east = (longitude + 180.0) % 360.0 - 180.0
    found = reverse_geocode.search(list(zip(latitude.tolist(), east.tolist(), strict=True)))
    return [town["country"] or town["country_code"] for town in found]
