"""ONNX graphs: conversion, layouts, rewriting passes and lower precisions."""
