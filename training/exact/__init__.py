"""Exact integer networks of fitted runs: conversion, a short fit, and the files that hold them."""
