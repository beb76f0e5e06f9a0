"""Layers as forward/backward pairs that know no model. Every function works on the last axis alone."""
