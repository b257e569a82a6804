//! The node process: discovery, device-plugin servers, health.
