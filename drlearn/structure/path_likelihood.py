"""Likelihood of items' paths and its gradients from one pass over chunks of events, on the processor.

Paper: section 2.1. The loss of an event (x, v) is -log sum_j p(c_j|x) over the paths of v, and its gradient
in the logits of a layer is the responsibility of path j times (probabilities - the path's node).
"""

from __future__ import annotations

import numpy as np

from drlearn._exponential import exponential, largest
from drlearn._runtime import fast_jit, fast_kernel
from drlearn.search.products import add_gradients, add_product, add_two_gradients, add_two_products

_CHUNK = 64
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_LEAST, _MOST = np.float32(1e-25), np.float32(1e25)


@fast_kernel
def _hidden_units(users, nodes, layer, tables, hidden):
    """Rectified hidden units of a layer: a row an event in the first layer, a row a path in the others."""
    n_hidden, n_rows = hidden.shape[1], 1 if layer == 0 else nodes.shape[1]
    for event in range(users.shape[0]):
        user = users[event, layer * n_hidden : (layer + 1) * n_hidden]
        for path in range(n_rows):
            row = hidden[event * n_rows + path]
            for h in range(n_hidden):
                row[h] = user[h]
            for earlier in range(layer):
                table = tables[layer, earlier, nodes[event, path, earlier]]
                for h in range(n_hidden):
                    row[h] += table[h]
            for h in range(n_hidden):
                row[h] = max(row[h], _ZERO)


@fast_kernel
def _run(nodes, path, layer, first, width):
    """Where the events end that pass the same node before `layer` as the first, and that node's weights."""
    last, node = first + 1, nodes[first, path, layer - 1]
    while last < nodes.shape[0] and nodes[last, path, layer - 1] == node:
        last += 1
    return last, 1 + (layer - 1) * width + node


@fast_jit
def _logits(x, nodes, layer, hidden, output_weight, node_weight, node_bias, logits):
    """Logits of a layer: a row an event in the first layer, a row a path in the others."""
    if hidden.shape[1] > 0:
        np.dot(hidden, output_weight, logits)
    else:
        logits[:] = _ZERO
    if layer == 0:
        logits += np.dot(x, node_weight[0]) + node_bias[0]
    else:
        _add_node_logits(x, nodes, layer, node_weight, node_bias, logits)


@fast_kernel
def _add_node_logits(x, nodes, layer, node_weight, node_bias, logits):
    """Add to the logits of a later layer what the nodes before have of their own, run by run."""
    n_rows, width, n = nodes.shape[1], logits.shape[1], x.shape[0]
    for path in range(n_rows):
        first = 0
        while first < n:
            last, parent = _run(nodes, path, layer, first, width)
            weight, bias = node_weight[parent], node_bias[parent]
            for event in range(first, last):
                row = logits[event * n_rows + path]
                for k in range(width):
                    row[k] += bias[k]
            for event in range(first, last - 1, 2):
                one, other = logits[event * n_rows + path], logits[(event + 1) * n_rows + path]
                add_two_products(x[event], x[event + 1], weight, one, other)
            if (last - first) % 2 == 1:
                add_product(x[last - 1], weight, logits[(last - 1) * n_rows + path])
            first = last


@fast_kernel
def _probabilities(logits, mass, log_totals):
    """Softmax of the rows of `logits`, and the logs of their sums."""
    n_rows, width = logits.shape
    flat_logits, flat_mass = logits.reshape(-1), mass.reshape(-1)
    for i in range(flat_logits.shape[0]):
        flat_mass[i] = exponential(flat_logits[i])
    for row in range(n_rows):
        total, top = _ZERO, _ZERO
        for k in range(width):
            total += mass[row, k]
        if not _LEAST < total < _MOST:
            top, total = largest(logits[row]), _ZERO
            for k in range(width):
                mass[row, k] = exponential(logits[row, k] - top)
                total += mass[row, k]
        scale = _ONE / total
        for k in range(width):
            mass[row, k] *= scale
        log_totals[row] = top + np.log(total)


@fast_kernel
def _responsibilities(log_probs, exists, shares):
    """Share of each path in the sum of an event's, and the events' summed loss."""
    loss = 0.0
    for event in range(shares.shape[0]):
        top, total = -np.inf, 0.0
        for path in range(shares.shape[1]):
            if exists[event, path]:
                top = max(top, log_probs[event, path])
        for path in range(shares.shape[1]):
            shares[event, path] = np.exp(log_probs[event, path] - top) if exists[event, path] else 0.0
            total += shares[event, path]
        if total > 0:
            loss -= top + np.log(total)
            for path in range(shares.shape[1]):
                shares[event, path] /= total
    return loss


@fast_kernel
def _logit_gradients(mass, shares, nodes, layer):
    """Turn probabilities into the gradient of the logits: responsibilities times (probability - node)."""
    n_rows, width = 1 if layer == 0 else nodes.shape[1], mass.shape[1]
    for event in range(nodes.shape[0]):
        if layer == 0:
            total = _ZERO
            for path in range(nodes.shape[1]):
                total += shares[event, path]
            if total == 0:  # an item without paths teaches nothing
                mass[event] = 0
        for path in range(nodes.shape[1]):
            row, share = mass[event * n_rows + (path if layer else 0)], shares[event, path]
            if layer > 0:
                for k in range(width):
                    row[k] *= share
            row[nodes[event, path, layer]] -= share


@fast_jit
def _nodes_backward(x, mass, nodes, layer, node_weight, grad_weight, grad_bias, grad_x):
    """Add the gradients of node weights, node biases and user vectors."""
    if layer == 0:
        grad_weight[0] += np.dot(x.T, mass)
        grad_bias[0] += mass.sum(axis=0)
        grad_x += np.dot(mass, node_weight[0].T)
    else:
        _add_node_gradients(x, mass, nodes, layer, node_weight, grad_weight, grad_bias, grad_x)


@fast_kernel
def _add_node_gradients(x, mass, nodes, layer, node_weight, grad_weight, grad_bias, grad_x):
    """Add the gradients of a later layer, run by run as `_add_node_logits` goes."""
    n_rows, width, n = nodes.shape[1], mass.shape[1], x.shape[0]
    for path in range(n_rows):
        first = 0
        while first < n:
            last, parent = _run(nodes, path, layer, first, width)
            weight, gradient, bias = node_weight[parent], grad_weight[parent], grad_bias[parent]
            for event in range(first, last):
                row = mass[event * n_rows + path]
                for k in range(width):
                    bias[k] += row[k]
            for event in range(first, last - 1, 2):
                one, other = mass[event * n_rows + path], mass[(event + 1) * n_rows + path]
                add_two_gradients(
                    x[event], x[event + 1], weight, one, other, gradient, grad_x[event], grad_x[event + 1]
                )
            if (last - first) % 2 == 1:
                row = mass[(last - 1) * n_rows + path]
                add_gradients(x[last - 1], weight, row, gradient, grad_x[last - 1])
            first = last


@fast_jit
def _hidden_backward(mass, hidden, weight, part, rows_gradient):
    """Write the gradients of a layer's output weight and of its hidden units."""
    np.dot(hidden.T, mass, part)
    np.dot(mass, weight.T, rows_gradient)
    for row in range(hidden.shape[0]):
        for h in range(hidden.shape[1]):
            rows_gradient[row, h] *= hidden[row, h] > 0


@fast_kernel
def _spread(rows_gradient, nodes, layer, grad_tables, grad_users):
    """Add the gradients of hidden units to the tables' rows and to the users' parts."""
    n_rows, n_hidden = 1 if layer == 0 else nodes.shape[1], rows_gradient.shape[1]
    for event in range(nodes.shape[0]):
        user = grad_users[event, layer * n_hidden : (layer + 1) * n_hidden]
        user[:] = 0
        for path in range(n_rows):
            row = rows_gradient[event * n_rows + path]
            for h in range(n_hidden):
                user[h] += row[h]
            for earlier in range(layer):
                table = grad_tables[layer, earlier, nodes[event, path, earlier]]
                for h in range(n_hidden):
                    table[h] += row[h]


@fast_jit
def likelihood_gradients(x, nodes, exists, parameters, grad_x, gradients):
    """Write the gradients of -sum over events of log sum_j p(c_j|x) and return it.

    Parameters
    ----------
    x : ndarray of shape (E, dim), float32
        User vectors.
    nodes : ndarray of shape (E, J, D), int64
        Nodes of the paths of each event's item.
    exists : ndarray of shape (E, J), bool
        Which of the paths there are.
    parameters : tuple of float32 ndarrays
        Weight (D H, dim) and bias (D H,) of the users' parts, tables (D, D, K, H), output weight (D, H, K),
        node weight (R, dim, K) and node bias (R, K), R = 1 + (D - 1) K.
    grad_x : ndarray of shape (E, dim)
        Filled.
    gradients : tuple of ndarrays
        Of the shapes of `parameters`, zeros; filled.
    """
    user_weight, user_bias, tables, output_weight, node_weight, node_bias = parameters
    grad_user_weight, grad_user_bias, grad_tables, grad_output_weight = gradients[:4]
    grad_node_weight, grad_node_bias = gradients[4:]
    n_paths, depth = nodes.shape[1:]
    _, n_hidden, width = output_weight.shape
    rows = _CHUNK * n_paths
    users = np.empty((_CHUNK, depth * n_hidden), np.float32)
    grad_users = np.empty_like(users)
    hidden, mass = np.empty((depth, rows, n_hidden), np.float32), np.empty((depth, rows, width), np.float32)
    logits, log_totals = np.empty((rows, width), np.float32), np.empty(rows, np.float32)
    log_probs, shares = np.empty((_CHUNK, n_paths), np.float32), np.empty((_CHUNK, n_paths), np.float32)
    part, user_part = np.empty((n_hidden, width), np.float32), np.empty(user_weight.shape, np.float32)
    rows_gradient, loss = np.empty((rows, n_hidden), np.float32), 0.0
    for start in range(0, x.shape[0], _CHUNK):
        n = min(_CHUNK, x.shape[0] - start)
        now, mine, log_prob = x[start : start + n], nodes[start : start + n], log_probs[:n]
        grad_now = grad_x[start : start + n]
        if n_hidden > 0:
            np.dot(now, user_weight.T, users[:n])
            users[:n] += user_bias
        log_prob[:] = 0
        for layer in range(depth):
            n_rows = n if layer == 0 else n * n_paths
            units, rows_logits = hidden[layer, :n_rows], logits[:n_rows]
            _hidden_units(users[:n], mine, layer, tables, units)
            _logits(now, mine, layer, units, output_weight[layer], node_weight, node_bias, rows_logits)
            _probabilities(rows_logits, mass[layer, :n_rows], log_totals)
            for event in range(n):
                for path in range(n_paths):
                    row = event if layer == 0 else event * n_paths + path
                    log_prob[event, path] += logits[row, mine[event, path, layer]] - log_totals[row]
        loss += _responsibilities(log_prob, exists[start : start + n], shares[:n])
        grad_now[:] = 0
        for layer in range(depth):
            n_rows = n if layer == 0 else n * n_paths
            gradient, flow = mass[layer, :n_rows], rows_gradient[:n_rows]
            _logit_gradients(gradient, shares[:n], mine, layer)
            grads = grad_node_weight, grad_node_bias, grad_now
            _nodes_backward(now, gradient, mine, layer, node_weight, *grads)
            if n_hidden > 0:
                _hidden_backward(gradient, hidden[layer, :n_rows], output_weight[layer], part, flow)
                grad_output_weight[layer] += part
                _spread(flow, mine, layer, grad_tables, grad_users[:n])
        if n_hidden > 0:
            np.dot(grad_users[:n].T, now, user_part)
            grad_user_weight += user_part
            for event in range(n):
                for h in range(grad_users.shape[1]):
                    grad_user_bias[h] += grad_users[event, h]
            grad_now += np.dot(grad_users[:n], user_weight)
    return loss
