"""Programs as their documentation would have a user write them. Each prints {"images_per_s": …} as its last line."""
