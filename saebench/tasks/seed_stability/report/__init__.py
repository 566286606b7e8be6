"""How what was measured of a group becomes measurements with intervals."""
