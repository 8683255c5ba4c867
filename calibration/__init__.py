"""Videos -> clips, exactly as the published test pipeline makes them."""
