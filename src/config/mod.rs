//! The configuration folder, from text to typed values.
