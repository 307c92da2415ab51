"""Peers that read JPEG files of photographs."""
