//! The directory: locks, generations, kills.
