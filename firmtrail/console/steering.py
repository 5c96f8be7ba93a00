"""Lists the pages that show devices, releases and rollouts, and steer them."""

from firmtrail.console.pages import (
    device,
    device_orders,
    devices,
    devices_bulk,
    halts,
    releases,
    rollout_orders,
    rollout_starts,
    rollouts,
)

ROUTES = (
    *devices.ROUTES,
    *devices_bulk.ROUTES,
    *halts.ROUTES,
    *device.ROUTES,
    *device_orders.ROUTES,
    *rollout_starts.ROUTES,
    *releases.ROUTES,
    *rollouts.ROUTES,
    *rollout_orders.ROUTES,
)
"""The routes of these pages. A path with a name comes before one that takes any name there."""
