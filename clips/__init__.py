"""Videos in, clips out: exactly as the published test pipeline makes them."""
