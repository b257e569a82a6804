//! A safe NVML session: loading, handles, events.
